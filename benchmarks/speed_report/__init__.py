"""The report of ``make bench``: a module a section."""
