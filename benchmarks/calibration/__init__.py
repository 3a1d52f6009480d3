"""From scores to a confidence and a threshold: fitted, judged and plotted."""
