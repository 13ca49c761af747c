package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// absent is an image that no registry will ever give.
const absent = "127.0.0.1:1/none:1"

// P6: nothing healthy is stopped before its replacement's image is on the node, whatever the strategy would allow.
func TestNothingIsStoppedForAnImageThatIsNotThere(t *testing.T) {
	all := map[string]string{
		"recreate.yaml": "{type: Recreate}",
		"inplace.yaml":  "{type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}",
	}
	running := func(image string) map[string]string {
		files := map[string]string{}
		for file, strategy := range all {
			name := strings.TrimSuffix(file, ".yaml")
			files[file] = strings.Replace(deployment(name, image, 1), "  replicas: 1\n", "  replicas: 1\n  strategy: "+strategy+"\n", 1)
		}
		files["lone.yaml"] = "apiVersion: v1\nkind: Pod\nmetadata: {name: lone}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {name: app, image: \"" + image + "\"}\n"
		return files
	}
	c := newCluster(t, running("hello:1.0"))
	c.up(t)
	c.converge(t, c.head(t))
	before := c.containers(t)

	c.commit(t, "an image that does not exist", running(absent))
	for _, name := range []string{"recreate", "inplace"} {
		c.eventually(t, name+" says what it waits for", func() error {
			out, err := c.try("get", "deployment", name, "-o", "json")
			if err == nil && (!strings.Contains(out, absent) || !strings.Contains(out, "is not yet on node n1 (") || !strings.Contains(out, "refused")) {
				err = fmt.Errorf("it does not name image, node and the engine's words:\n%s", out)
			}
			return err
		})
	}
	if diff := cmp.Diff(before, c.containers(t)); diff != "" {
		t.Errorf("P6: containers were touched:\n%s", diff)
	}

	only := running("hello:1.0")
	only["lone.yaml"] = running(absent)["lone.yaml"]
	c.commit(t, "only the bare Pod waits", only)
	c.eventually(t, "the revision says what the bare Pod waits for", func() error {
		out, err := c.try("get", "revisions", "-o", "json")
		if err == nil && !strings.Contains(out, "Pod default/lone: the one before it runs on, for image "+absent) {
			err = fmt.Errorf("no revision does:\n%s", out)
		}
		return err
	})
	if diff := cmp.Diff(before, c.containers(t)); diff != "" {
		t.Errorf("P6: containers were touched:\n%s", diff)
	}

	c.converge(t, c.commit(t, "one that does", running("hello:2.0")))
	for _, p := range c.pods(t) {
		if !p.Deleted && p.Image != "hello:2.0" {
			t.Errorf("%s runs %s, want hello:2.0", p.Name, p.Image)
		}
	}
}
