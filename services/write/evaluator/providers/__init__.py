"""Who answers: one file each behind one small interface, found by name in `endpoints`."""
