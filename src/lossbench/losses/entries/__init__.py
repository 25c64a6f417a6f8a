"""The facts of every loss, one module per family; `lossbench.losses.catalogue` joins them."""
