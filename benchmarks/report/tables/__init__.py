"""Tables, their formats, and the table of every comparison."""
