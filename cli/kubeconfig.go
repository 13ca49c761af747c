package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
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
	path := cmp.Or(c.kubeconfig, filepath.Join(cmp.Or(os.Getenv(environmentName("data-dir")), DefaultDataDir()), "kubeconfig"))
	file, err := clientcmd.LoadFromFile(path)
	if errors.Is(err, fs.ErrNotExist) && c.kubeconfig == "" {
		return nil, advice{fmt.Sprintf("no cluster here (there is no %s)\nStart one with `mainstay up --repo PATH`, or point --kubeconfig at one.", path), err}
	}
	if err != nil {
		return nil, unusable(path, err)
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
	return newClient(config, path, namespace, servers(file, config)...)
}

// servers are where the other servers of a cluster are: a kubeconfig has a cluster for each of them, with the same authority.
func servers(file *clientcmdapi.Config, meant *rest.Config) (others []string) {
	for _, name := range slices.Sorted(maps.Keys(file.Clusters)) {
		c := file.Clusters[name]
		if c.Server != meant.Host && len(c.CertificateAuthorityData) > 0 && bytes.Equal(c.CertificateAuthorityData, meant.CAData) && !slices.Contains(others, c.Server) {
			others = append(others, c.Server)
		}
	}
	return others
}

// connectTimeout is how long a server may take to accept a connection if there are others to ask.
const connectTimeout = 3 * time.Second

// unusable says what to do about a kubeconfig that cannot be read.
func unusable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return advice{fmt.Sprintf("there is no kubeconfig %s: a server writes one to <data-dir>/kubeconfig", path), err}
	case errors.Is(err, fs.ErrPermission):
		return advice{fmt.Sprintf("kubeconfig %s may not be read by this user: run as the user who started the cluster, or copy the file", path), err}
	}
	var unread *fs.PathError
	if errors.As(err, &unread) {
		return fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return advice{fmt.Sprintf("kubeconfig %s is not one: it must be YAML with clusters, users and contexts, as a server writes it to <data-dir>/kubeconfig", path), err}
}

func newClient(config *rest.Config, path, namespace string, others ...string) (*client, error) {
	if len(others) > 0 {
		config.Dial = (&net.Dialer{Timeout: connectTimeout}).DialContext
	}
	config.UserAgent = "mainstay"
	config.QPS = -1 // one person at a keyboard needs no brake
	web, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s holds no credentials that can be used (%w): use the one that a server wrote to <data-dir>/kubeconfig", path, err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	c := &client{web: web, servers: []*url.URL{base}, kubeconfig: path, namespace: namespace}
	for _, other := range others {
		at, err := url.Parse(other)
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s: server %q: %w", path, other, err)
		}
		c.servers = append(c.servers, at)
	}
	return c, nil
}
