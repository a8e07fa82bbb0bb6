"""Forward processes, the conversions between what networks predict, and the times they are trained at."""
