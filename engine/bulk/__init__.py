"""Whole files of questions, answered by many workers, and resumed where a run was cut off."""
