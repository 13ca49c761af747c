//go:build !amd64

package docker

// pauseProgram is nil where nobody has assembled one yet: EnsureSandbox says so.
func pauseProgram() []byte { return nil }
