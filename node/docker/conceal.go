package docker

import (
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// concealedProgram stands where the engine names the program that it could not run, and that was put together from the
// environment: it may hold a Secret's value.
const concealedProgram = "the engine could not run the container's program, whose name comes from its environment and is not shown"

// concealed keeps the engine's words on a program to itself. errors.Is still sees what is behind it.
type concealed struct{ err error }

func (c concealed) Error() string { return conceal(c.err.Error()) }
func (c concealed) Unwrap() error { return c.err }

// conceal keeps of the engine's words on a program only why it does not run.
func conceal(message string) string {
	for _, why := range []string{"no such file or directory", "executable file not found in $PATH", "permission denied", "is a directory", "exec format error"} {
		if strings.Contains(message, ": "+why) {
			return concealedProgram + ": " + why
		}
	}
	return concealedProgram
}

// startError is why a container was not started, fit to be shown.
func startError(cfg runtime.ContainerConfig, err error) error {
	if (cerrdefs.IsInvalidArgument(err) || cerrdefs.IsInternal(err)) && programExpanded(cfg.Container, cfg.Command, cfg.Args) {
		return concealed{err}
	}
	return err
}

// programExpanded tells whether the program of a container is not, word for word, the one in its spec. Without a spec that
// cannot be known, and is taken to be so.
func programExpanded(spec *corev1.Container, command, args []string) bool {
	switch {
	case spec == nil:
		return true
	case len(spec.Command) > 0:
		return len(command) == 0 || command[0] != spec.Command[0]
	case len(spec.Args) > 0: // the program, if the image names none
		return len(args) == 0 || args[0] != spec.Args[0]
	default:
		return false
	}
}
