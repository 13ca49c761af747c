package join_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// gate is a Gate whose clock stands still until it is moved.
type gate struct {
	*join.Gate
	now time.Time
	log bytes.Buffer
}

func newGate(t *testing.T, objects ...object.Object) *gate {
	t.Helper()
	g := &gate{now: time.Now()}
	clock := func() time.Time { return g.now }
	authority, err := pki.Open(t.TempDir(), clock)
	if err != nil {
		t.Fatal(err)
	}
	g.Gate = join.NewGate(join.Config{
		Store:     statetest.New(t, append(objects, &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}})...),
		Authority: authority, Clock: clock, Log: slog.New(slog.NewTextHandler(&g.log, nil)),
	})
	return g
}

func (g *gate) token(t *testing.T, wanted join.Wanted) join.Token {
	t.Helper()
	if wanted.TTL == 0 {
		wanted.TTL = time.Hour
	}
	token, err := g.CreateToken(t.Context(), wanted)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// from is an address that no server has.
var from = netip.MustParseAddr("192.0.2.7")

func (g *gate) enter(t *testing.T, token, node string) (*x509.Certificate, error) {
	t.Helper()
	request, _, err := pki.Request()
	if err != nil {
		t.Fatal(err)
	}
	got, err := g.Join(t.Context(), link.JoinRequest{Token: token, Node: node, Request: string(request)}, from)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(got.Certificate))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert, nil
}

func TestCertificateNamesTheNodeAndWhereItCameFrom(t *testing.T) {
	g := newGate(t, &object.Server{ObjectMeta: metav1.ObjectMeta{Name: "s1"}, Spec: object.ServerSpec{Address: "192.0.2.1:7443"}})
	cert, err := g.enter(t, g.token(t, join.Wanted{Role: object.RoleAgent}).String(), "n1")
	if err != nil {
		t.Fatal(err)
	}
	if s := cert.Subject; s.CommonName != "n1" || len(s.Organization) != 1 || s.Organization[0] != pki.GroupNodes {
		t.Errorf("the certificate is for %v", s)
	}
	if len(cert.DNSNames) != 1 || cert.DNSNames[0] != pki.NodeHost("n1") || len(cert.IPAddresses) != 1 || cert.IPAddresses[0].String() != from.String() {
		t.Errorf("it is good for %v %v", cert.DNSNames, cert.IPAddresses)
	}
}

func TestNoNodesCertificateIsGoodAtAServersAddress(t *testing.T) {
	g := newGate(t, &object.Server{ObjectMeta: metav1.ObjectMeta{Name: "s1"}, Spec: object.ServerSpec{Address: from.String() + ":7443"}})
	cert, err := g.enter(t, g.token(t, join.Wanted{Role: object.RoleAgent}).String(), "n1")
	if err != nil || len(cert.IPAddresses) != 0 {
		t.Errorf("it is good for %v, %v", cert.IPAddresses, err)
	}
}

// Where a server has a name, it may be at any of the name's addresses; where nobody knows those, anywhere.
func TestNoNodesCertificateIsGoodWhereAServersNameLeads(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	for name, want := range map[string]int{"localhost:7443": 1, "nowhere.invalid:7443": 0} {
		g := newGate(t, &object.Server{ObjectMeta: metav1.ObjectMeta{Name: "s1"}, Spec: object.ServerSpec{Address: name, Endpoint: local.String() + ":7443"}})
		cert, err := g.enter(t, g.token(t, join.Wanted{Role: object.RoleAgent}).String(), "n1")
		if err != nil || len(cert.IPAddresses) != want {
			t.Errorf("beside a server at %s it is good for %v, %v", name, cert.IPAddresses, err)
		}
	}
	g := newGate(t, &object.Server{ObjectMeta: metav1.ObjectMeta{Name: "s1"}, Spec: object.ServerSpec{Address: "localhost:7443", Endpoint: from.String() + ":7443"}})
	if cert, err := g.enter(t, g.token(t, join.Wanted{Role: object.RoleAgent}).String(), "n1"); err != nil || len(cert.IPAddresses) != 0 {
		t.Errorf("where Pods reach a server it is good for %v, %v", cert.IPAddresses, err)
	}
}

// Each refusal says what is wrong and what to do, and what is logged names the machine but never the token's secret.
func TestTokensThatLetNobodyIn(t *testing.T) {
	ready := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "there"}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	for name, tc := range map[string]struct {
		wanted join.Wanted
		spoil  func(t *testing.T, g *gate, token join.Token) string // the token as it is presented
		node   string
		code   int32
		says   string
	}{
		"wrong role": {wanted: join.Wanted{Role: object.RoleServer}, code: http.StatusForbidden, says: "is for the role server"},
		"expired": {wanted: join.Wanted{Role: object.RoleAgent}, code: http.StatusForbidden, says: "expired at", spoil: func(_ *testing.T, g *gate, token join.Token) string {
			g.now = g.now.Add(time.Hour)
			return token.String()
		}},
		"revoked": {wanted: join.Wanted{Role: object.RoleAgent}, code: http.StatusForbidden, says: "revoked", spoil: func(t *testing.T, g *gate, token join.Token) string {
			if known, err := g.RevokeToken(t.Context(), token.ID); !known || err != nil {
				t.Fatal(known, err)
			}
			return token.String()
		}},
		"used up": {wanted: join.Wanted{Role: object.RoleAgent, Once: true}, code: http.StatusForbidden, says: "good for one machine", spoil: func(t *testing.T, g *gate, token join.Token) string {
			if _, err := g.enter(t, token.String(), "first"); err != nil {
				t.Fatal(err)
			}
			return token.String()
		}},
		"another secret": {wanted: join.Wanted{Role: object.RoleAgent}, code: http.StatusUnauthorized, says: "not known", spoil: func(_ *testing.T, _ *gate, token join.Token) string {
			return token.String() + "x"
		}},
		"unknown": {wanted: join.Wanted{Role: object.RoleAgent}, code: http.StatusUnauthorized, says: "not known", spoil: func(_ *testing.T, _ *gate, token join.Token) string {
			return strings.Replace(token.String(), token.ID, "aaaaaaaa", 1)
		}},
		"no token":        {wanted: join.Wanted{Role: object.RoleAgent}, code: http.StatusUnauthorized, says: "not a join token", spoil: func(*testing.T, *gate, join.Token) string { return "password" }},
		"name of a node":  {wanted: join.Wanted{Role: object.RoleAgent}, node: "there", code: http.StatusConflict, says: "--node-name"},
		"impossible name": {wanted: join.Wanted{Role: object.RoleAgent}, node: "N1/..", code: http.StatusBadRequest, says: "cannot be a node's name"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, ready)
			token := g.token(t, tc.wanted)
			presented := token.String()
			if tc.spoil != nil {
				presented = tc.spoil(t, g, token)
			}
			node := tc.node
			if node == "" {
				node = "n1"
			}
			_, err := g.enter(t, presented, node)
			status, ok := err.(apierrors.APIStatus)
			if !ok || status.Status().Code != tc.code || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("err = %v, want %d with %q", err, tc.code, tc.says)
			}
			if !strings.Contains(g.log.String(), from.String()) {
				t.Errorf("the refusal is not logged with its address:\n%s", &g.log)
			}
			if secret := presented[strings.LastIndex(presented, ".")+1:]; strings.Contains(g.log.String(), secret) || err != nil && strings.Contains(err.Error(), secret) {
				t.Error("the secret is in the log or the error")
			}
		})
	}
}

func TestNodeThatIsDeadMayBeReplacedUnderItsName(t *testing.T) {
	gone := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}}}
	g := newGate(t, gone)
	if _, err := g.enter(t, g.token(t, join.Wanted{Role: object.RoleAgent}).String(), "n1"); err != nil {
		t.Error(err)
	}
}

// Of all that bring a token for one machine at once, one gets in.
func TestTokenForOneLetsOneIn(t *testing.T) {
	const machines = 16
	g := newGate(t)
	token := g.token(t, join.Wanted{Role: object.RoleAgent, Once: true}).String()
	var in sync.Map
	var all sync.WaitGroup
	for i := range machines {
		all.Go(func() {
			if cert, err := g.enter(t, token, "n"+string(rune('a'+i))); err == nil {
				in.Store(cert.Subject.CommonName, true)
			}
		})
	}
	all.Wait()
	var names []any
	in.Range(func(name, _ any) bool { names = append(names, name); return true })
	if len(names) != 1 {
		t.Errorf("%v got in, want one", names)
	}
	if list := g.Tokens(); len(list) != 1 || list[0].Uses != 1 || list[0].State != "used" {
		t.Errorf("the token is listed as %+v", list)
	}
}

func TestAttemptsAreLimited(t *testing.T) {
	g := newGate(t)
	var last error
	for range 200 {
		_, last = g.Join(t.Context(), link.JoinRequest{Token: "guess", Node: "n1"}, from)
	}
	if !apierrors.IsTooManyRequests(last) {
		t.Errorf("after 200 attempts: %v, want too many requests", last)
	}
	other, err := g.Join(t.Context(), link.JoinRequest{Token: "guess", Node: "n1"}, netip.MustParseAddr("192.0.2.8"))
	if apierrors.IsTooManyRequests(err) {
		t.Errorf("another address pays for a stranger's attempts: %v, %v", other, err)
	}
	addresses := netip.MustParseAddr("10.0.0.0")
	for range 10000 {
		addresses = addresses.Next()
		_, last = g.Join(t.Context(), link.JoinRequest{Token: "guess", Node: "n1"}, addresses)
	}
	if !apierrors.IsTooManyRequests(last) {
		t.Errorf("after an attempt from each of 10000 addresses: %v, want too many requests", last)
	}
}

func TestStoreNeverHoldsTheSecret(t *testing.T) {
	g := newGate(t)
	token := g.token(t, join.Wanted{Role: object.RoleAgent}).String()
	var stored bytes.Buffer
	if err := g.Store.View().Persist(&stored); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stored.String(), token[strings.LastIndex(token, ".")-8:strings.LastIndex(token, ".")]) {
		t.Fatal("the token is not in the store at all")
	}
	if strings.Contains(stored.String(), token[strings.LastIndex(token, ".")+1:]) {
		t.Error("the secret is in the store")
	}
	if n := state.Len[*object.JoinToken](g.Store.View()); n != 1 {
		t.Errorf("%d tokens", n)
	}
}

func TestImpossibleTokensAreNotMade(t *testing.T) {
	g := newGate(t)
	for _, wanted := range []join.Wanted{{Role: "king", TTL: time.Hour}, {Role: object.RoleAgent}, {Role: object.RoleAgent, TTL: 10_000 * time.Hour}} {
		if token, err := g.CreateToken(t.Context(), wanted); err == nil {
			t.Errorf("%+v gave token %s", wanted, token.ID)
		}
	}
}
