"""A run in order: plan, session, evaluation, handover report, guard; resume, trackers, progress."""
