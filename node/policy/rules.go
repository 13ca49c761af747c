package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// renderRules writes what a policy lets through in one direction; its sets go into the part. Whatever cannot be read lets
// nothing through.
func (p *part) renderRules(d direction, judge string, rules []link.PolicyRule) []string {
	var lines []string
	for i, rule := range rules {
		name := judge + "-" + strconv.Itoa(i)
		for _, peer := range p.renderPeers(d, name, rule) {
			for _, port := range p.renderPorts(name, rule) {
				lines = append(lines, strings.Join(strings.Fields(peer+" "+port+" accept"), " "))
			}
		}
	}
	return lines
}

// renderPeers are expressions, one of which must match; "" always does.
func (p *part) renderPeers(d direction, name string, rule link.PolicyRule) []string {
	if rule.Anyone {
		return []string{""}
	}
	var out []string
	if rule.EveryPod {
		out = append(out, d.other+" @"+pods)
	}
	if len(rule.Addresses) > 0 {
		peers := &set{kind: "ipv4_addr", elements: map[string]string{}}
		for _, text := range rule.Addresses {
			if address, err := netip.ParseAddr(text); err == nil && address.Is4() {
				peers.elements[text] = ""
			}
		}
		p.sets[name+"-peers"] = peers
		out = append(out, d.other+" @"+name+"-peers")
	}
	for _, block := range rule.Blocks {
		if expression, ok := renderBlock(d.other, block); ok {
			out = append(out, expression)
		}
	}
	return out
}

func renderBlock(other string, b link.PolicyBlock) (expression string, ok bool) {
	cidr, err := netip.ParsePrefix(b.CIDR)
	if err != nil || !cidr.Addr().Is4() {
		return "", false
	}
	if cidr.Bits() > 0 { // to nftables, a range of everything is no range
		expression = other + " " + cidr.Masked().String()
	}
	for _, text := range b.Except {
		except, err := netip.ParsePrefix(text)
		if err != nil {
			return "", false
		}
		if except.Addr().Is4() {
			expression += " " + other + " != " + except.Masked().String()
		}
	}
	return expression, true
}

// protocols in the order in which their rules stand.
var protocols = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}

// renderPorts are expressions, one of which must match; "" always does.
func (p *part) renderPorts(name string, rule link.PolicyRule) []string {
	if len(rule.Ports) == 0 {
		if rule.NoPort {
			return nil
		}
		return []string{""}
	}
	var out []string
	named := &set{kind: "ipv4_addr . inet_proto . inet_service", elements: map[string]string{}}
	for _, protocol := range protocols {
		word, ranges := strings.ToLower(string(protocol)), []span(nil)
		for _, port := range rule.Ports {
			switch {
			case port.Protocol != protocol:
			case len(port.Pods) > 0:
				named.addPorts(word, port)
			case port.First == 0:
				ranges = append(ranges, span{0, maxPort})
			default:
				ranges = append(ranges, span{uint32(port.First), uint32(port.Last)})
			}
		}
		if expression := renderRanges(word, join(ranges)); expression != "" {
			out = append(out, expression)
		}
	}
	if len(named.elements) > 0 {
		p.sets[name+"-ports"] = named
		out = append(out, "ip daddr . meta l4proto . th dport @"+name+"-ports")
	}
	return out
}

const maxPort = 1<<16 - 1

func (s *set) addPorts(protocol string, port link.PolicyPort) {
	for _, text := range port.Pods {
		if address, err := netip.ParseAddr(text); err != nil || !address.Is4() {
			continue
		}
		for number := port.First; number <= port.Last; number++ {
			s.elements[fmt.Sprintf("%s . %s . %d", text, protocol, number)] = ""
		}
	}
}

func renderRanges(protocol string, ranges []span) string {
	if len(ranges) == 0 {
		return ""
	}
	if ranges[0] == (span{0, maxPort}) {
		return "meta l4proto " + protocol
	}
	var texts []string
	for _, r := range ranges {
		text := strconv.Itoa(int(r.first))
		if r.last > r.first {
			text += "-" + strconv.Itoa(int(r.last))
		}
		texts = append(texts, text)
	}
	return protocol + " dport { " + strings.Join(texts, ", ") + " }"
}
