"""The page at ``/``: a passage, a question, and the answer where it stands. Plain files, nothing built."""
