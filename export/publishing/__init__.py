"""The bundle's folder, published in one step by one process."""
