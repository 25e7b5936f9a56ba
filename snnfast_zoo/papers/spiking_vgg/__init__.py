"""Spiking VGG networks trained by STBP."""
