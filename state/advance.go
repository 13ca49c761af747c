package state

// Advanced is the same state as a store of its own would hold it whose newest change has version v. Objects keep their
// versions. Of a transaction whose end had not come, nothing is left. It panics if v lies in snap's past.
func (s *Snapshot) Advanced(v Version) *Snapshot {
	if v < s.Version {
		panic("state: a store cannot go back to an earlier version")
	}
	later := *s
	later.Version, later.staged = v, staging{}
	return &later
}
