"""Labels of unlabelled views: estimates of the network, fused, refined and written."""
