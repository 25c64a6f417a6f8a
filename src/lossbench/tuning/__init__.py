"""Fair tuning: equal budgets, paired draws, chosen on validation, retrained with fresh seeds."""
