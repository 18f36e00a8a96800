"""The flights that left New York in 2013, their planes, airports and weather, in four databases."""
