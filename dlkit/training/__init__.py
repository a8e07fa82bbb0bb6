"""Fitting teachers and distilling them: engine, update plan, checkpoints, health."""
