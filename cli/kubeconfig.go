package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// DefaultDataDir is where a cluster on this machine keeps its data if nobody says otherwise: /var/lib/mainstay for root,
// else $XDG_DATA_HOME/mainstay or ~/.local/share/mainstay.
func DefaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/mainstay"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mainstay")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), fmt.Sprintf("mainstay-%d", os.Geteuid()))
	}
	return filepath.Join(home, ".local", "share", "mainstay")
}

// connection is what a command needs to reach a cluster.
type connection struct {
	kubeconfig string
	namespace  string
}

func (c *connection) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.kubeconfig, "kubeconfig", "", "`FILE` that says where the cluster is (default $MAINSTAY_KUBECONFIG, then "+
		"kubeconfig in the data directory)")
}

func (c *connection) addNamespace(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.namespace, "namespace", "n", "", "namespace (default the kubeconfig's, else \"default\")")
}

// open reads the kubeconfig; it does not speak to the server yet.
func (c *connection) open() (*client, error) {
	path, given := c.kubeconfig, c.kubeconfig != ""
	if !given {
		path = filepath.Join(cmp.Or(os.Getenv(EnvironmentName("data-dir")), DefaultDataDir()), "kubeconfig")
	}
	file, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return nil, noKubeconfig(path, given, err)
	}
	overrides := &clientcmd.ConfigOverrides{}
	overrides.Context.Namespace = c.namespace
	loader := clientcmd.NewDefaultClientConfig(*file, overrides)
	config, err := loader.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, advice{fmt.Sprintf("kubeconfig %s names no cluster: use the one that a server wrote to <data-dir>/kubeconfig", path), err}
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return newClient(config, path, namespace)
}

func noKubeconfig(path string, given bool, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist) && given:
		return advice{fmt.Sprintf("there is no kubeconfig %s: a server writes one to <data-dir>/kubeconfig", path), err}
	case errors.Is(err, fs.ErrNotExist):
		return advice{fmt.Sprintf("no cluster here (there is no %s)\nStart one with `mainstay up --repo PATH`, or point --kubeconfig at one.", path), err}
	case errors.Is(err, fs.ErrPermission):
		return advice{fmt.Sprintf("kubeconfig %s may not be read by this user: run as the user who started the cluster, or copy the file", path), err}
	}
	var unread *fs.PathError
	if errors.As(err, &unread) {
		return fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return advice{fmt.Sprintf("kubeconfig %s is not one: it must be YAML with clusters, users and contexts, as a server writes it to <data-dir>/kubeconfig", path), err}
}

func newClient(config *rest.Config, path, namespace string) (*client, error) {
	config.UserAgent = "mainstay"
	config.QPS = -1 // one person at a keyboard needs no brake
	web, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return &client{config: config, web: web, base: base, kubeconfig: path, namespace: namespace}, nil
}
