"""Runs of a training procedure: settings, repeats, folder, result, figures."""
