"""What may differ after the handover: online settings, exploration, target values."""
