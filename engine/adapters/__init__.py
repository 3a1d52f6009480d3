"""What users of other tools call, with the engine behind it: a folder an adapter, and none needs another."""
