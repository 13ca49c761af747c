package load

// Bounds against trees that would take a server down. Each is far above what a repository of manifests needs, and each message
// names its bound.
const (
	maxFileBytes    = 1 << 20  // as Kubernetes' own limit for what a ConfigMap or an etcd value may hold, and then some
	maxTreeBytes    = 32 << 20 // all manifests of a tree
	maxEntries      = 20_000   // names in a tree, manifests or not
	maxDirDepth     = 32       // directories inside each other
	maxNesting      = 64       // objects and lists inside each other; a Pod spec needs 13
	maxObjects      = 50_000   // as many as one revision may change
	maxFileProblems = 500      // of one file: enough to see what is wrong with it
	maxNameBytes    = 255      // of one path element, as on every file system
	maxIgnoreBytes  = 64 << 10 // of a .mainstayignore
	maxLinkBytes    = 4096     // where a symbolic link points: PATH_MAX
	maxDirBytes     = 8 << 20  // of one Git tree object: 20 000 names of 255 bytes are 5.6 MB

	// What a document may grow to when every alias is replaced by what it stands for: no more than could be written by hand.
	maxExpanded = maxFileBytes
	// What a value costs in that count beside its text, so that aliases of tiny things are bounded too.
	valueCost = 2
)
