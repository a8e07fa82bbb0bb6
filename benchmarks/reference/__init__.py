"""References: what a competent person would first write from the formulas, in plain eager torch."""
