"""FastSpan and its peers measured in turns: models, processes, records."""
