"""Pages that are written by programs are those that the programs write now."""

from docs import properties


def test_the_table_of_properties_is_current():
    written = properties.PAGE.read_text("utf-8")
    assert written == properties.page(), "python docs/properties.py writes it anew"
