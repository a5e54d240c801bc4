#!/bin/sh
# kafka-run-class.sh CLASS args... ; under another name (kafka-topics.sh, ...) the class of that tool.
# JSA: the archive of classes to use; DUMP: the one to write at the end.
home=/opt/kafka
tools=org.apache.kafka.tools
case ${0##*/} in
  kafka-acls.sh) class=$tools.AclCommand ;;
  kafka-broker-api-versions.sh) class=$tools.BrokerApiVersionsCommand ;;
  kafka-configs.sh) class=kafka.admin.ConfigCommand ;;
  kafka-consumer-groups.sh) class=$tools.consumer.group.ConsumerGroupCommand ;;
  kafka-get-offsets.sh) class=$tools.GetOffsetShell ;;
  kafka-storage.sh) class=kafka.tools.StorageTool ;;
  kafka-topics.sh) class=$tools.TopicCommand ;;
  *) class= ;;
esac
exec java ${KAFKA_HEAP_OPTS:--Xmx256M} ${JSA:+-XX:SharedArchiveFile=$home/$JSA.jsa} \
  ${DUMP:+-XX:ArchiveClassesAtExit=$home/$DUMP.jsa} -Xshare:auto -Xlog:disable -Xlog:all=error:stderr \
  ${KAFKA_JVM_PERFORMANCE_OPTS--XX:+UseSerialGC -XX:TieredStopAtLevel=1} \
  -Dlog4j2.configurationFile=$home/config/${LOG4J:-tools-log4j2}.yaml ${KAFKA_OPTS-} -cp "$(cat $home/classpath)" \
  $class "$@"
