"""What all writers of multi-view records share: rig, centres, time steps, the set of records."""
