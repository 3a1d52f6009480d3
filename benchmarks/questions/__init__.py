"""Questions to ask: SQuAD's files, the project's own set, and workloads of them."""
