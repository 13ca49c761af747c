package server

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// The kubeconfig that each server writes has a context for every server, and kubectl, which takes one at a time, reads by each. What was
// copied once the authority was rotated still does when the rotation is over, and so does the file itself.
func TestEveryContextOfAKubeconfigIsGood(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	var before [][]byte
	for _, s := range c.sites {
		content := s.untilKubeconfig(t, func(content []byte) bool { return len(contexts(t, content)) == len(c.sites) })
		before = append(before, content)
		c.readByEveryContext(t, s.kubeconfig(t))
	}
	admin, mark := Admin{DataDir: c.sites[0].data}, c.servers[0].authority.Mark()
	if _, err := admin.RotateAuthority(t.Context()); err != nil {
		t.Fatal(err)
	}
	mark = c.agreeOn(t, mark)
	var copies []string
	for i, s := range c.sites {
		content := s.untilKubeconfig(t, func(content []byte) bool { return !bytes.Equal(content, before[i]) })
		path := filepath.Join(t.TempDir(), "copy")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, path)
		c.readByEveryContext(t, path)
	}
	if _, err := admin.FinishRotation(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	c.agreeOn(t, mark)
	for i, s := range c.sites {
		c.readByEveryContext(t, copies[i])
		c.readByEveryContext(t, s.kubeconfig(t))
	}
}

// untilKubeconfig waits until a server has written what is wanted, and returns it.
func (s *site) untilKubeconfig(t *testing.T, wanted func(content []byte) bool) []byte {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		content, err := os.ReadFile(s.kubeconfig(t))
		if err != nil {
			t.Fatal(err)
		}
		if wanted(content) {
			return content
		}
		if time.Now().After(deadline) {
			t.Fatalf("the kubeconfig of %s has the contexts %v, and is not what is wanted", s.name, contexts(t, content))
		}
	}
}

func contexts(t *testing.T, kubeconfig []byte) []string {
	t.Helper()
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(config.Contexts))
}

// readByEveryContext reads by each context as kubectl would, and wants to have asked every server.
func (c *trio) readByEveryContext(t *testing.T, kubeconfig string) {
	t.Helper()
	content, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	for _, name := range contexts(t, content) {
		rules, overrides := &clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}, &clientcmd.ConfigOverrides{CurrentContext: name}
		config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
		if err != nil {
			t.Fatal(err)
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Errorf("by context %s: %v", name, err)
		}
		asked[config.Host] = true
	}
	servers := map[string]bool{}
	for _, s := range c.sites {
		servers["https://"+s.at] = true
	}
	if diff := cmp.Diff(servers, asked); diff != "" {
		t.Errorf("servers asked (-want +got):\n%s", diff)
	}
}
