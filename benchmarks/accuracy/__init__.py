"""Exact match and F1 as the official evaluator counts them, and the thresholds behind them."""
