"""The study's own figures, drawn anew from the data and a trained network."""
