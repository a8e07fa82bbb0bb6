"""Score implicit matching and the Laplace schedule for dlkit, which finds both by their entry points."""
