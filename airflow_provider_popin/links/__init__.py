"""Links shown on task instances."""
