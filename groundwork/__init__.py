"""What every room stands on: settings as text."""
