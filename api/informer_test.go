package api_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// A real client-go informer syncs, follows, and finds its way back when its connections break.
func TestInformerFollows(t *testing.T) {
	s := serve(t, api.Config{}, shop()...)
	ctx, cancel := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactory(s.clientset(), 0)
	informer := factory.Core().V1().Pods().Informer()
	seen := make(chan string, 64)
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { seen <- "add " + obj.(*corev1.Pod).Name },
		UpdateFunc: func(_, obj any) { seen <- "update " + string(obj.(*corev1.Pod).Status.Phase) },
		DeleteFunc: func(any) { seen <- "delete" },
	}); err != nil {
		t.Fatal(err)
	}
	factory.StartWithContext(ctx)
	t.Cleanup(func() {
		cancel()
		factory.Shutdown()
	})
	expect := func(want ...string) {
		t.Helper()
		var got []string
		for range want {
			select {
			case one := <-seen:
				got = append(got, one)
			case <-time.After(20 * time.Second):
				t.Fatalf("informer saw %q, want %q", got, want)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("informer saw %q, want %q", got, want)
		}
	}
	expect("add web-5d4f8-aaaaa", "add web-5d4f8-bbbbb") // of what is there at first, client-go promises no order
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatal("the informer did not sync")
	}
	key := state.Key{Namespace: "shop", Name: "late"}
	statetest.Put(t, s.store, pod("shop", "late", ""))
	expect("add late")
	s.http.CloseClientConnections()
	setPhase(t, s.store, key, corev1.PodRunning)
	expect("update Running")
	remove(t, s.store, key)
	expect("delete")

	// Lists page by page, as clients do that have not moved to watch lists.
	pods, err := s.clientset().CoreV1().Pods("shop").List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil || len(pods.Items) != 1 || pods.Continue == "" {
		t.Errorf("%v, %v", pods, err)
	}
}

// A client certificate is who one is, if the TLS layer has verified it; otherwise it is nothing.
func TestClientCertificates(t *testing.T) {
	cert, pool := certificate(t, "n1", api.GroupNodes)
	for name, tc := range map[string]struct {
		mode tls.ClientAuthType
		want int
	}{
		"verified":     {tls.VerifyClientCertIfGiven, http.StatusForbidden}, // known, and a node
		"not verified": {tls.RequestClientCert, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			a := local(statetest.New(t, shop()...))
			srv := httptest.NewUnstartedServer(a)
			srv.TLS = &tls.Config{ClientAuth: tc.mode, ClientCAs: pool}
			srv.StartTLS()
			defer srv.Close()
			client := srv.Client()
			client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{cert}
			resp, err := client.Get(srv.URL + "/api/v1/pods")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tc.want {
				t.Errorf("%d, want %d", resp.StatusCode, tc.want)
			}
		})
	}
}

func certificate(t *testing.T, name, group string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{group}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
