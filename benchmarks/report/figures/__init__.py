"""What figures are drawn with, and the figures of every comparison."""
