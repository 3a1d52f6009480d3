"""What one choice gives: graphs with it undone, and where a run's time goes."""
