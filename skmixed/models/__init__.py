"""Objectives, their optimisers and the fitted records."""
