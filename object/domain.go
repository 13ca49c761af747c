package object

// ClusterDomain is what the names of all Services and Pods end with.
const ClusterDomain = "cluster.local"
