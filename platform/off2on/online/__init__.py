"""Online phase: settings, exploration and target values that may differ after the handover."""
