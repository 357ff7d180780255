"""Files of dataset items: read row by row, each with its place in the file, and written so that they read back."""
