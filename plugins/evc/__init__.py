"""Edge Vision Cluster: observe, manage and cluster edge devices and run machine learning on them."""
