"""The names of RayDP, so that its programs and Ray Data's ``from_spark`` and ``to_spark`` find raydp_ml behind them."""
