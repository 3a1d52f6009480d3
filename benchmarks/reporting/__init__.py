"""What every report is made of: a document, its HTML and plots, the files it is kept in."""
