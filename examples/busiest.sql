SELECT deviceName, count(*) AS rows, count(DISTINCT metric) AS metrics
FROM rows
WHERE tsUnixMs >= (SELECT max(tsUnixMs) FROM rows) - 3600000
GROUP BY deviceName
ORDER BY rows DESC, deviceName
LIMIT 5
