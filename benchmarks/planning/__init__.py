"""From what one machine was measured to do, to how many machines a task takes, and what they cost."""
