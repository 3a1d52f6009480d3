"""The stages of an answer, for those who order them: of pairs, of sets of passages, of streams of either."""
