// Package join lets machines into the cluster: it makes, checks, lists and revokes tokens, and signs the certificates of who
// brings one. It serves nothing itself and knows no node's later life. Start at Gate.Join; what a token is stands in token.go.
package join

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mainstay-cluster/mainstay/object"
)

// version is the first part of every token.
const version = "mainstay1"

const (
	idBytes      = 5  // enough never to meet the same among a cluster's tokens
	machineBytes = 10 // enough never to meet the same among the machines of one name
	secretBytes  = 20 // 160 bits: nobody guesses it, so its hash need not be slow
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Token is what one machine gives another to be let in: mainstay1.<pin>.<id>.<secret>.
type Token struct {
	Pin    string // of the cluster's authority
	ID     string // names the JoinToken
	secret string
}

// errMalformed never quotes what it is about.
var errMalformed = errors.New("this is not a join token: one looks like mainstay1.….….…, in one piece. Make one on a server: mainstay token create --role agent, or --role server for a further server")

// Parse takes a token apart. Its error never quotes it.
func Parse(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] != version || parts[1] == "" || parts[2] == "" || parts[3] == "" {
		return Token{}, errMalformed
	}
	return Token{Pin: parts[1], ID: parts[2], secret: parts[3]}, nil
}

// String is the token whole, secret included.
func (t Token) String() string { return strings.Join([]string{version, t.Pin, t.ID, t.secret}, ".") }

// hash is what the store keeps of the secret.
func (t Token) hash() []byte {
	// The id salts the hash, so that equal secrets, should there ever be any, do not show. A fast hash is enough: slow ones
	// protect what people can remember, and these are 160 random bits.
	mac := hmac.New(sha256.New, []byte(t.ID))
	mac.Write([]byte(t.secret))
	return mac.Sum(nil)
}

// newToken draws a token.
func newToken(pin string) Token {
	random := make([]byte, idBytes+secretBytes)
	_, _ = rand.Read(random) // it never fails: the process ends instead
	return Token{Pin: pin, ID: encoding.EncodeToString(random[:idBytes]), secret: encoding.EncodeToString(random[idBytes:])}
}

// NewMachine draws what tells a machine from those that had its name before.
func NewMachine() string {
	random := make([]byte, machineBytes)
	_, _ = rand.Read(random) // as above
	return encoding.EncodeToString(random)
}

// errUnknown is all that one learns who does not hold the secret.
var errUnknown = errors.New("the token is not known here: perhaps it was removed after its time, or is of another cluster. Make a new one on a server: mainstay token create --role agent")

// check says why a token does not let a machine in as role; nil when it does. Only who holds its secret learns more than that
// it is not known. A nil stored is a token that does not exist.
func check(t Token, stored *object.JoinToken, role string, now time.Time) error {
	if stored == nil || !hmac.Equal(t.hash(), stored.Spec.Hash) {
		return errUnknown
	}
	again := "make a new one on a server: mainstay token create --role " + role
	switch spec := stored.Spec; {
	case spec.Role != role:
		return fmt.Errorf("token %s is for the role %s, and this machine joins as %s: %s", t.ID, spec.Role, role, again)
	case spec.Revoked:
		return fmt.Errorf("token %s has been revoked: %s", t.ID, again)
	case !now.Before(spec.Expires.Time):
		return fmt.Errorf("token %s expired at %s: %s", t.ID, spec.Expires.UTC().Format(time.RFC3339), again)
	case spec.Once && spec.Uses > 0:
		return fmt.Errorf("token %s was good for one machine, and one has joined by it: %s", t.ID, again)
	}
	return nil
}
