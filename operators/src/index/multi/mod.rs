//! Token vectors for late interaction, scored by MaxSim.
