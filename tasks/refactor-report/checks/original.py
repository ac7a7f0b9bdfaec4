def build_report(lines):
    c = {}
    s = {}
    bad = []
    seen = {}
    n = 0
    first = True
    for i, line in enumerate(lines):
        line = line.strip()
        if line == "" or line.startswith("#"):
            continue
        if first:
            first = False
            if line.lower().startswith("order,"):
                continue
        parts = [p.strip() for p in line.split(",")]
        if len(parts) < 5 or len(parts) > 6:
            bad.append((i + 1, "wrong number of columns"))
            continue
        if len(parts) == 5:
            parts.append("")
        try:
            q = int(parts[3])
            p = int(parts[4])
        except ValueError:
            bad.append((i + 1, "not a number"))
            continue
        if q == 0 or p < 0:
            bad.append((i + 1, "out of range"))
            continue
        if (parts[0], parts[2]) in seen:
            bad.append((i + 1, "same as line " + str(seen[(parts[0], parts[2])])))
            continue
        seen[(parts[0], parts[2])] = i + 1
        amount = q * p
        if q > 0:
            if parts[5] == "TENOFF":
                amount = amount - (amount + 9) // 10
            elif parts[5] == "FREEONE":
                if q >= 3:
                    amount = (q - 1) * p
            elif parts[5] != "":
                bad.append((i + 1, "unknown coupon " + parts[5]))
        country = parts[1].upper()
        if country == "":
            country = "??"
        if country in c:
            c[country][0] = c[country][0] + amount
            if parts[0] not in c[country][1]:
                c[country][1].append(parts[0])
        else:
            c[country] = [amount, [parts[0]]]
        if parts[2] in s:
            s[parts[2]] = (s[parts[2]][0] + q, s[parts[2]][1] + amount)
        else:
            s[parts[2]] = (q, amount)
        n = n + 1
    out = ""
    out = out + "REVENUE\n"
    t = 0
    for k in sorted(c, key=lambda k: (-c[k][0], k)):
        v = c[k][0]
        t = t + v
        if v < 0:
            m = "-" + str(-v // 100) + "." + str(-v % 100).rjust(2, "0")
        else:
            m = str(v // 100) + "." + str(v % 100).rjust(2, "0")
        if len(c[k][1]) == 1:
            out = out + "  " + k.ljust(4) + m.rjust(12) + "  1 order\n"
        else:
            out = out + "  " + k.ljust(4) + m.rjust(12) + "  " + str(len(c[k][1])) + " orders\n"
    if t < 0:
        m = "-" + str(-t // 100) + "." + str(-t % 100).rjust(2, "0")
    else:
        m = str(t // 100) + "." + str(t % 100).rjust(2, "0")
    out = out + "  all " + m.rjust(12) + "\n"
    if n > 0:
        out = out + "BEST SELLERS\n"
        rank = 0
        last = None
        shown = 0
        for k in sorted(s, key=lambda k: (-s[k][0], -s[k][1], k)):
            if s[k][0] <= 0:
                continue
            shown = shown + 1
            if s[k][0] != last:
                if shown > 3:
                    break
                rank = shown
                last = s[k][0]
            v = s[k][1]
            if v < 0:
                m = "-" + str(-v // 100) + "." + str(-v % 100).rjust(2, "0")
            else:
                m = str(v // 100) + "." + str(v % 100).rjust(2, "0")
            out = out + "  " + str(rank) + ". " + k + ": " + str(s[k][0]) + " for " + m + "\n"
    if bad:
        out = out + "PROBLEMS\n"
        for b in bad:
            out = out + "  line " + str(b[0]) + ": " + b[1] + "\n"
    return out
