"""Recipe × Model → Plan, from headers alone."""
