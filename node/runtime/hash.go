package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
)

// ContainerHash identifies what a container's spec says, in 16 characters: equal specs have equal hashes in every build
// and on every host, and an empty field is the same as an absent one.
func ContainerHash(c *corev1.Container) string {
	spec, err := json.Marshal(c)
	if err != nil {
		panic("container spec is not JSON: " + err.Error()) // a corev1.Container holds nothing that cannot be encoded
	}
	sum := sha256.Sum256(spec)
	return hex.EncodeToString(sum[:8])
}
